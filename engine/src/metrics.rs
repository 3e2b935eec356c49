//! Counters of stages, edges and jobs.
