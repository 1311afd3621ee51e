// SPDX-License-Identifier: Apache-2.0

// Command rclone is rclone with one back end and one server: a folder of the disk, served as S3.
//
// All of rclone has some seventy back ends and takes ten times as long to build.
package main

import (
	_ "github.com/rclone/rclone/backend/local"
	"github.com/rclone/rclone/cmd"
	_ "github.com/rclone/rclone/cmd/serve"
	_ "github.com/rclone/rclone/cmd/serve/s3"
)

func main() {
	cmd.Main()
}
