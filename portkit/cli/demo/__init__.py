"""The main job: workers check in, the main loop deals out files, workers answer with digests."""
