"""One file a topic, all of one contract: see ``story.Topic``. They never import each other."""
