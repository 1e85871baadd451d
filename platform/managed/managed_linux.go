package managed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"stile/platform/dirs"
)

// Place is where the policy is.
var Place = filepath.Join(dirs.Config, "policy.json")

const maxFile = 64 << 10

func read() (map[string]any, error) { return readFile(Place, 0) }

// readFile reads a policy that only user owner, root, can have written: whoever
// can write the file decides for everybody.
func readFile(path string, owner uint32) (map[string]any, error) {
	// Without O_NONBLOCK a pipe of that name would hold the service up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the policy does not count: %w", err)
	}
	defer f.Close()
	if err := trusted(f, owner); err != nil {
		return nil, fmt.Errorf("the policy %s does not count: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("the policy does not count: %w", err)
	}
	values, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("the policy %s does not count: %w", path, err)
	}
	return values, nil
}

// trusted looks at the open file, which cannot be exchanged any more.
func trusted(f *os.File, owner uint32) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return errors.New("it is not a file")
	case !is || stat.Uid != owner:
		return fmt.Errorf("it does not belong to root; run: sudo chown root: %s", f.Name())
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others than root can write to it; run: sudo chmod go-w %s", f.Name())
	case info.Size() > maxFile:
		return fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return nil
}

// parse reads one object of plain values.
func parse(text []byte) (map[string]any, error) {
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("it is not a JSON object: %w", err)
	}
	if len(values) > maxValues {
		return nil, fmt.Errorf("it has more than %d values", maxValues)
	}
	return values, nil
}
