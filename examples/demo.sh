#!/bin/sh
# The main job, from a checkpoint to an answer: export the reference model for Jetson Orin, and ask the bundle about pictures.
set -eu
cd "$(dirname "$0")/.."

# Shows a command as it would be typed, and runs it.
say() {
    printf '\n$'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./-]*) printf ' "%s"' "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$@"
}

say phiedge export --target orin -o demo/bundle --overwrite
say phiedge run demo/bundle --image examples/kiosk.png --prompt "Where do I click for PAY?"
say phiedge run demo/bundle --image examples/shelf.png --prompt "Is the black ball left or right of the yellow can?"
say phiedge verify demo/bundle
