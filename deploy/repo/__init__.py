"""The repository of releases on the operator's side: keys, signing, and a folder to be served."""
