// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools keeps the commands built here in go.mod.
package tools

import (
	_ "github.com/weaviate/weaviate/cmd/weaviate-server"
)
