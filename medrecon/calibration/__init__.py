"""What a scan says about its own receive chain: noise, coil sensitivities."""
