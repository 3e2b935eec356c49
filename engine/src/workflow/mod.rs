//! Specs of workflows and pipelines to graphs.
