"""The relaxation core in Amaranth. Holds nothing yet: the rtl target is not there."""
