"""The daemon: storage, network, HTTP, command line and the wiring between them."""
