#!/bin/sh
# The main job, from a checkpoint to an answer: export the reference model for Jetson Orin, and ask the bundle about pictures.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n$ %s\n' "$*"; "$@"; }

say phiedge export --target orin -o demo/bundle --overwrite
say phiedge run demo/bundle --image examples/kiosk.png --prompt "Where do I click for PAY?"
say phiedge run demo/bundle --image examples/shelf.png --prompt "How many cans are there?" --think on
say phiedge verify demo/bundle
