package logs

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAFilterForAWhileEndsInTheUsualOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Config{Filter: "info"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.SetFilter("trace", time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := l.SetUsual("warn"); err != nil || l.Filter() != "warn" {
			t.Errorf("%q, %v", l.Filter(), err)
		}
		time.Sleep(2 * time.Minute)
		if err := l.SetFilter("trace", time.Minute); err != nil || l.Filter() != "trace" {
			t.Errorf("%q, %v", l.Filter(), err)
		}
		time.Sleep(2 * time.Minute)
		if err := l.SetUsual("loud"); err == nil || l.Filter() != "warn" {
			t.Errorf("%q, %v", l.Filter(), err)
		}
	})
}
