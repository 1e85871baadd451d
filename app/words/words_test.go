package words

import (
	"reflect"
	"strings"
	"testing"
)

func TestEveryLanguageSaysEverything(t *testing.T) {
	for _, w := range languages {
		v := reflect.ValueOf(*w)
		for i := range v.NumField() {
			field, name := v.Field(i), v.Type().Field(i).Name
			if field.IsZero() {
				t.Errorf("%s says nothing for %s", w.Tag, name)
				continue
			}
			if field.Kind() != reflect.Func {
				continue
			}
			args := make([]reflect.Value, field.Type().NumIn())
			for i := range args {
				args[i] = reflect.ValueOf("«inserted»")
			}
			said := field.Call(args)[0].String()
			if strings.Count(said, "«inserted»") != len(args) {
				t.Errorf("%s, %s: %q does not show what it was given", w.Tag, name, said)
			}
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
