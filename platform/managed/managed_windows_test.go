package managed

import (
	"reflect"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// The test writes where administrators do, which is for a machine that forgets.
func TestReadRegistry(t *testing.T) {
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() != nil {
		t.Skip("this would change the policy of the machine: run it under Wine")
	}
	registry.DeleteKey(registry.LOCAL_MACHINE, key)
	if got, err := Read(); got != nil || err != nil {
		t.Errorf("no policy: %v, %v", got, err)
	}
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, key, registry.ALL_ACCESS|registry.WOW64_64KEY)
	if err != nil {
		t.Fatal(err)
	}
	defer registry.DeleteKey(registry.LOCAL_MACHINE, key)
	defer k.Close()
	if got, err := Read(); len(got) > 0 || err != nil {
		t.Errorf("an empty policy: %v, %v", got, err)
	}
	k.SetStringValue("apiURL", "wss://portal.example")
	k.SetDWordValue("connectOnStart", 1)
	k.SetBinaryValue("logFilter", []byte{1, 2})
	got, err := Read()
	if want := map[string]any{"apiURL": "wss://portal.example", "connectOnStart": uint64(1)}; !reflect.DeepEqual(got, want) || err == nil {
		t.Errorf("%v, %v", got, err)
	}
}
