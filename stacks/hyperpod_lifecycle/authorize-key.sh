#!/bin/bash
# Add one person's public key to the authorized keys of a user on this node.
#
#     authorize-key USER KEY_TYPE PUBLIC_KEY OWNER
#
# The session document of the environment runs it as root (stacks/constructs/node_access.py). A key
# that is there already is kept; a second key of the same owner is added.
set -euo pipefail

fail() {
    echo "temper: $*" >&2
    exit 1
}

[ $# = 4 ] || fail "usage: authorize-key USER KEY_TYPE PUBLIC_KEY OWNER"
user=$1 key_type=$2 public_key=$3 owner=$4
state=${TEMPER_STATE:-/opt/temper}

node_type=$(cat "$state/node-type" 2>/dev/null || echo unknown)
[ "$node_type" != compute ] ||
    fail "this is a compute node; connect to a login or controller node and use srun --pty bash"
entry=$(getent passwd "$user") || fail "there is no user $user on this node"
IFS=: read -r _ _ uid gid _ home _ <<<"$entry"
[ "$uid" -ge 1000 ] || [ "${TEMPER_ANY_USER:-}" = 1 ] || fail "$user is a system user"

folder=$home/.ssh
file=$folder/authorized_keys
install -d -m 700 -o "$uid" -g "$gid" "$folder"
touch "$file"
if ! grep -qF -- "$key_type $public_key" "$file"; then
    # An unfinished last line would swallow the key.
    [ ! -s "$file" ] || [ -z "$(tail -c 1 "$file")" ] || echo >>"$file"
    echo "$key_type $public_key $owner" >>"$file"
fi
chown "$uid:$gid" "$file"
chmod 600 "$file"
echo "temper: authorized $owner as $user"
