from retrieval.collection import Collection as Collection
from retrieval.encoders import load_encoder as load_encoder
from retrieval.errors import RetrievalError as RetrievalError
from retrieval.results import Results as Results
from retrieval.types import Encoder as Encoder
from retrieval.types import Hit as Hit

__version__: str
