"""Runnable scripts that use only public interfaces; never imported by the product."""
