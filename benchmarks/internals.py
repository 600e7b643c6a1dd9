"""What the benchmarks take from the steps and the engine, behind the public face: imported here alone."""

from workflow.commands.predict import PredictTask
from workflow.engine.executor import MAX_TOGETHER, Executor, FolderStorage, StoredArrays
from workflow.engine.partitions import Partition, part_path, partitions
from workflow.engine.plan import Sizes, TaskPlan, plan_tasks
from workflow.engine.progress import Progress
from workflow.ingest.demo_films import EDGE, STEP_SD, UNIT, ZOOM, Films, show_frames
from workflow.ingest.photographs import photographs
from workflow.steps import STEPS, config_class
from workflow.steps.base import call
from workflow.steps.centroid_graph import EDGES, DimensionTask, GraphTask
from workflow.steps.families import FEW_IMAGES
from workflow.steps.labels import (
    LABELS,
    Chosen,
    Labeller,
    LabelsSettings,
    LabelsTask,
    create_labels,
)
from workflow.steps.overcluster import (
    N_NEAREST,
    PAIRS,
    AssignTask,
)
from workflow.steps.parts.features import Features
from workflow.steps.parts.sample import Drawing, DrawTask, ShuffleTask
from workflow.steps.parts.within import TRIAL_ROWS, transform_of
from workflow.steps.pca import LargestTask, MomentsTask, merge_part_files
from workflow.steps.projection import Basis, ProjectionItem, ProjectionTask, transformed
from workflow.steps.report import N_ODD, ReportSettings
from workflow.steps.tree import TreeSettings
