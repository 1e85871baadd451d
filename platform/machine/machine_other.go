//go:build !linux

package machine

import "runtime"

func systemID() string { return "" }

func describe() OS {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	name := map[string]string{"windows": "Windows", "darwin": "Mac OS"}[runtime.GOOS]
	if name == "" {
		name = runtime.GOOS
	}
	return OS{Name: name, Version: "unknown", Arch: arch}
}
