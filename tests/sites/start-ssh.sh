#!/usr/bin/env bash
# Install (Debian) and start an SSH server on 127.0.0.1 that lets one key in, with keys of its own.
# Idempotent; last line "ssh ready".  Undo with: kill $(cat $SSH_LAB_DIR/sshd.pid)
#   SSH_LAB_DIR    where keys and settings are; nobody else may write there
#   SSH_LAB_PORT   port (default 20222)
set -euo pipefail
D=${SSH_LAB_DIR:?}; PORT=${SSH_LAB_PORT:-20222}
[ "$(id -u)" = 0 ] || { echo "start-ssh: run as root" >&2; exit 1; }
if ! command -v sshd >/dev/null && [ ! -x /usr/sbin/sshd ]; then
  made=; [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made=1; }
  trap '[ -z "$made" ] || rm -f /usr/sbin/policy-rc.d' EXIT
  export DEBIAN_FRONTEND=noninteractive
  A="-y -q --no-install-recommends -o DPkg::Lock::Timeout=300"
  apt-get install $A openssh-server >"$D/apt.log" 2>&1 || {
    apt-get update -q >>"$D/apt.log" 2>&1
    apt-get install $A openssh-server >>"$D/apt.log" 2>&1 || { echo "start-ssh: apt failed, see $D/apt.log" >&2; exit 1; }; }
fi
mkdir -p /run/sshd
for key in host user; do [ -e "$D/$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$D/$key"; done
cp "$D/user.pub" "$D/authorized_keys"; chmod 600 "$D/authorized_keys"
echo "[127.0.0.1]:$PORT $(cut -d' ' -f1,2 "$D/host.pub")" >"$D/known_hosts"
cat >"$D/sshd_config" <<CONF
Port $PORT
ListenAddress 127.0.0.1
HostKey $D/host
PidFile $D/sshd.pid
AuthorizedKeysFile $D/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
StrictModes no
CONF
/usr/sbin/sshd -f "$D/sshd_config" -E "$D/sshd.log"
for k in $(seq 1 50); do [ -s "$D/sshd.pid" ] && break; sleep 0.1; done
[ -s "$D/sshd.pid" ] || { cat "$D/sshd.log" >&2; exit 1; }
echo "ssh ready"
