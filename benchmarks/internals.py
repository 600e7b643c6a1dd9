"""What the benchmarks take from the steps and the engine, behind the public face: imported here alone."""

from workflow.pipeline.carry import TREES_OF_LENGTHS, closeness, create_labels, labelling
from workflow.pipeline.durations import EDGES
from workflow.pipeline.executor import MAX_TOGETHER, Executor, LeftArrays, StoredArrays
from workflow.pipeline.graph import DimensionTask, GraphTask, do
from workflow.pipeline.moments import merged_moments
from workflow.pipeline.overclustering import PAIRS, SAMPLE_PIECE_ROWS
from workflow.pipeline.partitions import Partition, partitions
from workflow.pipeline.plan import RunPlan, TaskPlan, plan_run
from workflow.pipeline.progress import Progress
from workflow.pipeline.sheets import N_ODD
from workflow.pipeline.tasks import (
    N_NEAREST,
    AssignTask,
    Basis,
    DrawTask,
    Labelling,
    LabelsTask,
    MomentsTask,
    PredictTask,
    ProjectionItem,
    ProjectionTask,
    SampleItem,
    ShuffleItem,
    ShuffleTask,
    part_path,
)
