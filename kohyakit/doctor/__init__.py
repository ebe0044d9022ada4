"""What this machine has for kohyakit and what stands in its way, as a report that can be shown to anybody."""
