#include "fst/store/h5.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/store/digest.h"
#include "fst/store/envelope.h"
#include "fst/store/files.h"

#include "temporary_folder.h"

namespace fst {
namespace {

TEST(H5, ValuesDimensionsAndAttributesComeBack) {
  const testing::TemporaryFolder folder;
  const auto path = folder.path() / "scores.h5";
  const std::vector<float> logits{1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> numbers{-1, 1LL << 60};
  {
    h5::File file = h5::File::create(temporary_name(path));
    file.put<float>("/case/0/logits", logits, {2, 3});
    file.put<std::int64_t>("/case/0/numbers", numbers);
    file.put<float>("/case/1/logits", {}, {0, 3});
    file.set_attribute("/case/0", "id", "ä");
    file.set_attribute("/case/0", "id", "replaced");
    file.set_attribute("/", "count", 2);
    file.set_attribute("/", "filetype", "fst scores");
    file.close();
  }
  publish_sealed(path);
  const h5::File file = h5::File::open(path);
  EXPECT_EQ(file.get<float>("/case/0/logits"), logits);
  EXPECT_EQ(file.get<std::int64_t>("/case/0/numbers"), numbers);
  EXPECT_EQ(file.dims("/case/0/logits"), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.dims("/case/1/logits"), (std::vector<std::int64_t>{0, 3}));
  EXPECT_TRUE(file.get<float>("/case/1/logits").empty());
  EXPECT_EQ(file.text_attribute("/case/0", "id"), "replaced");
  EXPECT_EQ(file.integer_attribute("/", "count"), 2);
  EXPECT_EQ(file.datasets(),
            (std::vector<std::string>{"/case/0/logits", "/case/0/numbers", "/case/1/logits"}));
  const std::string text = info(path);
  EXPECT_NE(text.find("fst scores"), std::string::npos) << text;
  EXPECT_NE(text.find("/case/0/logits: f32 [2, 3]"), std::string::npos) << text;
}

TEST(H5, RowsOfAMatrixAreWrittenAndReadInParts) {
  const testing::TemporaryFolder folder;
  h5::File file = h5::File::create(folder.path() / "x.h5");
  file.make("/m", h5::Element::f32, {5, 3});
  const std::vector<float> rows{1, 2, 3, 4, 5, 6};
  file.write_bytes("/m", h5::Element::f32, 0, std::as_bytes(std::span(rows)));
  file.write_bytes("/m", h5::Element::f32, 9, std::as_bytes(std::span(rows)));
  file.write_bytes("/m", h5::Element::f32, 6, std::as_bytes(std::span(rows).first(3)));
  EXPECT_EQ(file.get<float>("/m"),
            (std::vector<float>{1, 2, 3, 4, 5, 6, 1, 2, 3, 1, 2, 3, 4, 5, 6}));
  EXPECT_THROW(file.write_bytes("/m", h5::Element::f32, 1, std::as_bytes(std::span(rows))), Error);
  file.set_variable_text("/m", "id", "\u00e4");
  EXPECT_TRUE(file.has_attribute("/m", "id"));
}

TEST(H5, MistakesAreErrorsThatNameTheDataset) {
  const testing::TemporaryFolder folder;
  h5::File file = h5::File::create(folder.path() / "x.h5");
  file.put<float>("/a/b", std::vector<float>{1, 2, 3});
  EXPECT_TRUE(file.has("/a/b"));
  EXPECT_FALSE(file.has("/a/c"));
  EXPECT_FALSE(file.has("/x/y/z"));
  EXPECT_THROW(file.get<double>("/a/b"), Error);                        // another type
  EXPECT_THROW(file.get<float>("/a/c"), Error);                         // absent
  EXPECT_THROW(file.put<float>("/a/b", std::vector<float>{1}), Error);  // there already
  EXPECT_THROW(file.text_attribute("/a", "none"), Error);
  EXPECT_THROW(file.set_attribute("/a", "long", std::string(70'000, 'x')), Error);
  std::vector<float> two(2);
  EXPECT_THROW(file.read_bytes("/a/b", h5::Element::f32, 2, std::as_writable_bytes(std::span(two))),
               Error);
  EXPECT_THROW(h5::File::open(folder.path() / "absent.h5"), Error);
}

TEST(H5, FilesOfOthersAreRefused) {
  const testing::TemporaryFolder folder;
  const auto file = folder.write("other.h5", std::string(3000, 'x'));
  EXPECT_FALSE(has_envelope(file));
  EXPECT_THROW(info(file), Error);
  EXPECT_THROW(digest(file), Error);
}

}  // namespace
}  // namespace fst
