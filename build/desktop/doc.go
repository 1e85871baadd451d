// Package desktop tests the app of a desktop as its users meet it: the real
// program on a session bus of its own, with a panel that enumerates and clicks
// its menu, somebody who shows its messages, a browser that notes what it is
// sent to, and a tunnel service that the test controls. `make desktop` runs it;
// shots.sh beside it takes pictures of a real panel, and ACCEPTANCE.md lists what
// is promised.
package desktop
