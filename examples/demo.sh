#!/bin/sh
# The main job, from a checkpoint to an answer: export the reference model for Jetson Orin, and ask the bundle about pictures.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n$ %s\n' "$*"; "$@"; }

say phiedge export --target orin -o demo/bundle --overwrite
say phiedge run demo/bundle --image examples/kiosk.png --prompt "Where do I click for PAY?"
say phiedge run demo/bundle --image examples/shelf.png --prompt "Is the black ball left or right of the yellow can?"
say phiedge verify demo/bundle
