"""From frames and videos to crops with names: cut from annotations, or proposed and named."""
