"""The bottom-up-attention Faster R-CNN with attribute head, from pixels to regions."""
