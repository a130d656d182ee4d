"""How good a tagger is: labelled images, metrics and the modality gap."""
