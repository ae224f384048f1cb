"""The relaxation core in Amaranth: engines, their datapath, the bus shell and board tops."""
