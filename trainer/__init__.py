"""The workstation side: annotated frames and crops in, a bundle out."""
