"""One file per noun: each handler authorises, decides and answers."""
