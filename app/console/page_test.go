package console

import "testing"

func TestEveryPageCanBeMade(t *testing.T) {
	c, err := Listen(Config{Desk: newDesk(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name := range pages {
		m := c.model(t.Context(), &guest{token: "TOKEN"}, name, ask(""))
		m.fill(true)
		if err := layout.ExecuteTemplate(testWriter{}, "page", m); err != nil {
			t.Error(name, err)
		}
		if _, err := parts(pages[name].parts, m, map[string]string{}); err != nil {
			t.Error(name, err)
		}
	}
}

type testWriter struct{}

func (testWriter) Write(b []byte) (int, error) { return len(b), nil }
