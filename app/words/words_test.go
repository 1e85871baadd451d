package words

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestEveryLanguageSaysEverything(t *testing.T) {
	for _, w := range languages {
		whole(t, w.Tag, reflect.ValueOf(*w))
		whole(t, w.Console().Tag, reflect.ValueOf(*w.Console()))
		if w.Console().Tag != w.Tag || w.Causes().Tag != w.Tag {
			t.Errorf("%s lacks a table", w.Tag)
		}
	}
}

// whole wants a table to say something for each field, and to show what its
// functions are given.
func whole(t *testing.T, tag string, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		if field.IsZero() {
			t.Errorf("%s says nothing for %s", tag, name)
			continue
		}
		if field.Kind() != reflect.Func {
			continue
		}
		const text, number = "«inserted»", 4711
		args := make([]reflect.Value, field.Type().NumIn())
		for i := range args {
			args[i] = reflect.ValueOf(text)
			if field.Type().In(i).Kind() == reflect.Int {
				args[i] = reflect.ValueOf(number)
			}
		}
		said := field.Call(args)[0].String()
		if strings.Count(said, text)+strings.Count(said, strconv.Itoa(number)) != len(args) {
			t.Errorf("%s, %s: %q does not show what it was given", tag, name, said)
		}
	}
}

func TestTheEnvironmentChoosesTheLanguage(t *testing.T) {
	for wish, want := range map[string]string{
		"":               "en",
		"C":              "en",
		"C.UTF-8":        "en",
		"de_AT.UTF-8":    "de",
		"de-CH":          "de",
		"DE":             "de",
		"de@euro":        "de",
		"deu_X":          "en",
		"fr_FR:de:en":    "de",
		"en_GB.UTF-8:de": "en",
		"\x00\xff:_":     "en",
	} {
		if got := For(wish); got.Tag != want {
			t.Errorf("%q: %s, want %s", wish, got.Tag, want)
		}
	}
}
