//! Serves an exported generator over HTTP.
