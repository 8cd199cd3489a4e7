#!/bin/sh
set -e
echo "started by the entry point" >/data/started
exec "$@"
