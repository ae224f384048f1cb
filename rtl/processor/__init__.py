"""The relaxation processor: instructions, compiler, simulator and core; a net is data that is loaded into it."""
