"""Machine memory: RAM, frames with owners and counts, page-table formats, and the door to guest memory."""
