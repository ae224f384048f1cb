"""Reports: a JSON document with every number and its kind, and a self-contained page made from it alone."""

from .data import document, result_document
from .write import HTML, JSON, check_folder, render_page, write

__all__ = ["HTML", "JSON", "check_folder", "document", "render_page", "result_document", "write"]
