#!/bin/bash
# Create the users of the environment file (hyperpod.users) on this node, and make them and the AMI's
# user members of the group temper. A user has the same number on every node, and a home on Lustre.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
while IFS=, read -r name uid; do
    [ -n "$name" ] || continue
    if entry=$(getent passwd "$name"); then
        IFS=: read -r _ _ existing _ <<<"$entry"
        [ "$existing" = "$uid" ] ||
            { echo "temper: $name has the number $existing here; set hyperpod.users.$name: $existing"; exit 1; }
    else
        useradd --uid "$uid" --user-group --no-create-home --home-dir "$TEMPER_SHARED/home/$name" \
            --shell /bin/bash "$name"
    fi
    usermod --append --groups temper "$name"
    install -d -m 700 -o "$name" -g "$name" "$TEMPER_SHARED/home/$name"
done <"$here/users.csv"
if getent passwd ubuntu >/dev/null; then
    usermod --append --groups temper ubuntu
fi
# Runs that several people share stay writable for the group.
echo 'umask 002' >/etc/profile.d/temper.sh
