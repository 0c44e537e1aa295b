"""The proxy by which a container without a network reaches exactly the hosts that its user has named."""
