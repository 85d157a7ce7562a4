python3 - <<'EOF'
import pathlib
import re

path = pathlib.Path("shortener/models.py")
text = re.sub(r"<<<<<<<.*?>>>>>>>[^\n]*\n", "        pass  # TODO\n", path.read_text(), flags=re.DOTALL)
path.write_text(text)
EOF
