#!/bin/sh
# Install Chromium where it is not there, with apt: as root, on Debian. Exit status 77 where that cannot be.
for name in chromium chromium-browser google-chrome; do
  if command -v "$name"; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "no Chromium here, and installing it takes root and apt-get"
  exit 77
fi
apt-get update -q &&
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium &&
  command -v chromium && exit 0
echo "apt-get could not install chromium"
exit 77
