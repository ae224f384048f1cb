"""Ten lines from a checkpoint to a campaign: `python examples/ten_lines.py` (writes the folders core and campaign)."""

from pathlib import Path

import eqcompile as eq

HERE = Path(__file__).parent
train, test = HERE / "data" / "digits_calibration.npz", HERE / "data" / "digits_test.npz"

net = eq.load(HERE / "checkpoints" / "digits_looped.pt")
q = eq.quantize(net, calibrate=train, weights="int4")
art = eq.compile(q, target="numpy", out="core", inputs=test)
eq.compare(eq.golden(q, test), art.run(test)).require()
art.verify(test, limit=100)
proof = eq.certify(q, test, limit=20)
campaign = eq.campaign(art, model="seu", inputs=test, limit=20, faults=200, out="campaign")
campaign.plot().save("outcomes.svg", force=True)
eq.Picture(net.plot(test).panels + art.plot().panels).save("settling.html", force=True)
healed = campaign.outcomes["healed"]["rate"]["estimate"]
