"""Training several networks alike and comparing their accuracy, speed and memory."""
