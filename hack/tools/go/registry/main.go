// SPDX-License-Identifier: Apache-2.0

// Command registry is the distribution project's OCI registry, with a folder of the disk as its only storage.
//
// Without the clouds' storage drivers it builds in a quarter of the time.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if registry.RootCmd.Execute() != nil {
		os.Exit(1)
	}
}
