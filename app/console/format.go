package console

import (
	"strconv"
	"strings"
	"time"

	"stile/app/words"
)

// bytesText is an amount of data for people, decimal as disks are sold.
func bytesText(t *words.Console, n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, unit := float64(n), 0
	for value >= 999.5 && unit < len(units)-1 {
		value /= 1000
		unit++
	}
	digits := 0
	if value < 9.95 {
		digits = 1
	}
	return strings.Replace(strconv.FormatFloat(value, 'f', digits, 64), ".", t.DecimalPoint, 1) + " " + units[unit]
}

var units = []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}

// rateText is an amount of data in a second.
func rateText(t *words.Console, n uint64) string { return bytesText(t, n) + "/s" }

// agoText is how long ago something was, coarse enough not to flicker.
func agoText(t *words.Console, d time.Duration) string {
	switch {
	case d < 5*time.Second:
		return t.JustNow
	case d < time.Minute:
		return t.Ago(strconv.Itoa(int(d/(5*time.Second))*5) + " s")
	case d < time.Hour:
		return t.Ago(strconv.Itoa(int(d/time.Minute)) + " min")
	case d < 48*time.Hour:
		return t.Ago(strconv.Itoa(int(d/time.Hour)) + " h")
	}
	return t.Ago(strconv.Itoa(int(d/(24*time.Hour))) + " d")
}

// clockText is a moment in the user's zone: the time of today, or the day, too.
func clockText(at, now time.Time) string {
	at, now = at.In(now.Location()), now.In(now.Location())
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format("15:04")
	}
	return at.Format("2006-01-02 15:04")
}

// tripText is a round trip.
func tripText(t *words.Console, d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	digits := 0
	if ms < 9.95 {
		digits = 1
	}
	return strings.Replace(strconv.FormatFloat(ms, 'f', digits, 64), ".", t.DecimalPoint, 1) + " ms"
}
