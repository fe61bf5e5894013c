"""The transports that come with portkit: plug-ins, unknown to each other and none privileged."""
