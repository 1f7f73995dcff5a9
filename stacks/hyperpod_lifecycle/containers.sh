#!/bin/bash
# Make sure that Slurm can start container images (Enroot and Pyxis), if hyperpod.software is
# container. What HyperPod's AMI has is used; otherwise the packages of hyperpod.container_packages
# are installed, each only if its digest is the one of the environment file.
#
# A node without them is kept: jobs are refused before submission, with the fix.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ "$TEMPER_SOFTWARE" = container ] || exit 0
slurm=${TEMPER_SLURM:-/opt/slurm}

has_enroot() { command -v enroot >/dev/null; }
has_pyxis() { srun --help 2>/dev/null | grep -q -- --container-image; }

download() { # URL FILE
    case $1 in
        s3://*) aws s3 cp --only-show-errors "$1" "$2" ;;
        *) curl --fail --silent --show-error --location --retry 5 --output "$2" "$1" ;;
    esac
}

build_pyxis() { # ARCHIVE
    local source
    source=$(mktemp -d)
    tar -xzf "$1" -C "$source" --strip-components=1
    make -C "$source" CPPFLAGS="-I $slurm/include" prefix="$slurm" install
    mkdir -p "$slurm/etc/plugstack.conf.d"
    ln -sf "$slurm/share/pyxis/pyxis.conf" "$slurm/etc/plugstack.conf.d/pyxis.conf"
    local line="include $slurm/etc/plugstack.conf.d/*.conf"
    grep -qsxF "$line" "$slurm/etc/plugstack.conf" || echo "$line" >>"$slurm/etc/plugstack.conf"
    rm -rf "$source"
}

configure_enroot() {
    local disk=/opt/sagemaker
    ! mountpoint -q /opt/dlami/nvme || disk=/opt/dlami/nvme
    mkdir -p "$disk/enroot" /etc/enroot/enroot.conf.d
    chmod 1777 "$disk/enroot"
    cat >/etc/enroot/enroot.conf.d/temper.conf <<CONF
ENROOT_RUNTIME_PATH $disk/enroot/user-\$(id -u)/run
ENROOT_DATA_PATH $disk/enroot/user-\$(id -u)/data
ENROOT_CACHE_PATH $disk/enroot/user-\$(id -u)/cache
ENROOT_TEMP_PATH $disk/enroot
ENROOT_MOUNT_HOME no
ENROOT_RESTRICT_DEV no
CONF
}

install_packages() {
    local folder sha256 url file
    folder=$(mktemp -d)
    while read -r sha256 url; do
        [ -n "$url" ] || continue
        file=$folder/${url##*/}
        download "$url" "$file"
        echo "$sha256  $file" | sha256sum --check --quiet ||
            { echo "temper: $url is not the file with the SHA-256 $sha256; nothing of it is installed"; return 1; }
        case $file in
            *.deb) apt-get install --yes --no-install-recommends "$file" ;;
            *.tar.gz) build_pyxis "$file" ;;
        esac
    done <"$here/packages.txt"
    rm -rf "$folder"
}

if has_enroot && has_pyxis; then
    echo "temper: Enroot and Pyxis are installed"
    exit 0
fi
if [ -s "$here/packages.txt" ]; then
    install_packages
    configure_enroot
    for service in slurmctld slurmd; do
        ! systemctl is-active --quiet "$service" || systemctl restart "$service"
    done
fi
if has_enroot && has_pyxis; then
    echo "temper: Enroot and Pyxis were installed"
else
    echo "temper: WARNING: this node cannot start container images: the AMI has no Enroot or Pyxis." \
        "Name the packages in hyperpod.container_packages, or set hyperpod.software: environment"
fi
