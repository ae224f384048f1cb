"""The core as a packaged IP: its bus interfaces, IP-XACT, and a script and constraints for Vivado."""
