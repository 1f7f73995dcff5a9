"""Jobs on managed customization: what of them a provider can do, and what it costs."""
