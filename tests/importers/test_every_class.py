"""The catalogue of the research code: every class that computes something from a file has a family of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.importers.page import page

ROOT = Path(__file__).parents[2]
TEXT = "FullEqPropLM EqPropAttentionOnlyLM RecurrentEqPropLM HybridEqPropLM LoopedMLPForLM"
CATALOGUE = {
    "models": f"""
        LoopedMLP BackpropMLP TernaryEqProp NeuralCube LazyEqProp FeedbackAlignmentEqProp EqPropKernel EqPropKernelBPTT
        TemporalResonanceEqProp HomeostaticEqProp ConvEqProp ModernConvEqProp SimpleConvEqProp EqPropDiffusion
        TransformerEqProp CausalTransformerEqProp BackpropTransformerLM {TEXT} ContrastiveHebbianLearning CHLAutoencoder
        DirectFeedbackAlignmentEqProp DeepDFAEqProp DeepHebbianChain HebbianCube""",
    "archive": """
        LoopedMLP BackpropMLP TernaryEqProp NeuralCube LazyEqProp FeedbackAlignmentEqProp EqPropKernel
        TemporalResonanceEqProp HomeostaticEqProp ConvEqProp TransformerEqProp ToroidalMLP GatedMLP RecursiveBlock
        DeepRecursiveNetwork ModernEqProp DiffTorEqProp TPEqProp MSTEP EnhancedMSTEP HTSEP TCEP TorEqODEProp TEPSSR
        SpectralTorEqProp DimensionScaledEqProp AdaptiveBetaEqProp EmbeddingEqProp ProjectedEqProp""",
    "eqprop_torch": f"LoopedMLP BackpropMLP ConvEqProp TransformerEqProp EqPropKernel EqPropKernelBPTT {TEXT}",
    "algorithms": """
        BackpropBaseline StandardEqProp StandardFA EquilibriumAlignment AdaptiveFeedbackAlignment
        ContrastiveFeedbackAlignment LayerwiseEquilibriumFA EnergyGuidedFA PredictiveCodingHybrid SparseEquilibrium
        MomentumEquilibrium StochasticFA EnergyMinimizingFA""",
}
"""By package, at commit d5eaefd of automenta/eqprop; without abstract classes, parts of a network (EqPropAttention) and
what does not import there (archive_v1)."""
CLASSES = [f"{package}.{name}" for package, names in CATALOGUE.items() for name in names.split()]


@pytest.mark.parametrize("key", CLASSES)
def test_a_class_has_a_family_of_its_name(key: str) -> None:
    """A class whose files have no road."""
    assert key in all_families()


def test_the_page_of_families_is_current() -> None:
    """A page that lacks a class, or a setting of it, sends a user to the source."""
    assert (ROOT / "docs" / "reference" / "families.md").read_text(encoding="utf-8") == page(), "run `make docs`"
    assert all(f"| `{key}` |" in page() for key in CLASSES)
