"""Messages generated from the contract in this folder; only orthofed.proto imports them."""
