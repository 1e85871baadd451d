#!/bin/bash
# shots.sh OUT_DIR [STATE...]: pictures of the icon and the menu on a real panel (Xfce's) of a real X server, with
# the states of build/desktop's test service. Needs Debian's xvfb xauth xfce4-panel openbox adwaita-icon-theme xdotool
# imagemagick dbus dunst fonts-dejavu-core; takes 15 s for each state.
set -e
here=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "$1"); mkdir -p "$out"; shift
states=${*:-signed-out connected connected-dark resource trouble busy live many}
if [ -z "$SHOTS_INNER" ]; then
	(cd "$here" && CGO_ENABLED=0 go build -trimpath -o build/out/bin/ ./app/cmd/stile && go test -c -o build/out/bin/desktop.test ./build/desktop)
	for state in $states; do
		d=$(mktemp -d)
		mkdir -p "$d/cfg/xfce4/xfconf/xfce-perchannel-xml" "$d/home"; mkdir -m 700 "$d/run"
		cat >"$d/cfg/xfce4/xfconf/xfce-perchannel-xml/xfce4-panel.xml" <<'X'
<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array">
    <value type="int" value="1"/>
    <property name="dark-mode" type="bool" value="DARK"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=6;x=0;y=0"/>
      <property name="length" type="uint" value="100"/>
      <property name="position-locked" type="bool" value="true"/>
      <property name="icon-size" type="uint" value="22"/>
      <property name="size" type="uint" value="32"/>
      <property name="plugin-ids" type="array">
        <value type="int" value="1"/>
        <value type="int" value="2"/>
      </property>
    </property>
  </property>
  <property name="plugins" type="empty">
    <property name="plugin-1" type="string" value="separator">
      <property name="expand" type="bool" value="true"/>
      <property name="style" type="uint" value="0"/>
    </property>
    <property name="plugin-2" type="string" value="systray">
      <property name="square-icons" type="bool" value="true"/>
    </property>
  </property>
</channel>
X
		dark=false; case $state in *-dark) dark=true;; esac
		sed -i "s/DARK/$dark/" "$d/cfg/xfce4/xfconf/xfce-perchannel-xml/xfce4-panel.xml"
		env -u DBUS_SESSION_BUS_ADDRESS SHOTS_INNER=1 HOME="$d/home" XDG_CONFIG_HOME="$d/cfg" XDG_RUNTIME_DIR="$d/run" \
			XDG_CACHE_HOME="$d/cache" XDG_DATA_HOME="$d/data" LANG=C.UTF-8 \
			xvfb-run -a -s "-screen 0 800x600x24" dbus-run-session -- "$0" "$out" "$state"
		rm -rf "$d"
	done
	exit
fi
state=$states
bin=$here/build/out/bin
pids=()
trap 'kill "${pids[@]}" 2>/dev/null' EXIT
display -size 800x600 -window root xc:'#5d7186' 2>/dev/null || true
openbox >/dev/null 2>&1 & pids+=($!)
mkdir -p "$XDG_CONFIG_HOME/dunst"
printf '[global]\norigin = top-left\noffset = 12x44\nwidth = 330\nfont = DejaVu Sans 9\nframe_width = 1\n' >"$XDG_CONFIG_HOME/dunst/dunstrc"
dunst >/dev/null 2>&1 & pids+=($!)
xfce4-panel >/dev/null 2>&1 & pids+=($!)
mkdir -p "$XDG_CONFIG_HOME/stile/config"
echo '{"ran_before":true}' >"$XDG_CONFIG_HOME/stile/config/general_settings.json"
export STILE_SOCKET=$XDG_RUNTIME_DIR/service STILE_BIN_DIR=$bin
STILE_SHOW=${state%-dark} "$bin/desktop.test" -test.run TestShowForPictures -test.timeout 60s >/dev/null 2>&1 & pids+=($!)
sleep 4
"$bin/stile" tray --at-login >/dev/null 2>&1 & pids+=($!)
sleep 3
xdotool mousemove 784 16 click 1; sleep 1.5
case ${state%-dark} in
resource) xdotool key Down Down Down Down Right; sleep 1;; # the first resource with a name
live) kill -USR1 "${pids[-2]}"; sleep 1.5;; # the state changes while the menu is open
esac
import -window root "$out/tray-$state.png"
[ "$state" != live ] || convert "$out/tray-$state.png" -crop 360x120+0+34 +repage -trim +repage "$out/tray-message.png"
# The panel's half of the screen is enough.
width=300; case ${state%-dark} in resource|many) width=520;; esac
convert "$out/tray-$state.png" -gravity NorthEast -crop ${width}x420+0+0 +repage -trim +repage -depth 8 -colors 128 "PNG8:$out/tray-$state.png"
